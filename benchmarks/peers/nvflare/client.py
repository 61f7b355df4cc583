# An NVFlare client: scores the global weights on its images, then trains them.
import nvflare.client as flare

from benchmarks.peers.site import Site

flare.init()
site = Site(flare.get_site_name())
while flare.is_running():
    model = flare.receive()
    weights = model.params["numpy_key"]
    scores = site.evaluate(weights)
    fit = site.train(weights, model.current_round)
    metrics = {"loss": scores.loss, "accuracy": scores.accuracy}
    steps = {"NUM_STEPS_CURRENT_ROUND": len(site.train_y)}
    flare.send(flare.FLModel(params={"numpy_key": fit.weights}, metrics=metrics, meta=steps))
