# A plain Flower ClientApp on the images of one client.
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def site_of(context: Context):
    from benchmarks.peers.site import site  # here, so that the server need not load it

    return site(f"C{context.node_config['partition-id'] + 1}")


@app.train()
def train(message: Message, context: Context) -> Message:
    site = site_of(context)
    weights = message.content["arrays"].to_numpy_ndarrays()[0]
    fit = site.train(weights, message.content["config"]["server-round"])
    metrics = MetricRecord({"loss": fit.loss, "accuracy": fit.accuracy, "num-examples": len(site.train_y)})
    return Message(RecordDict({"arrays": ArrayRecord([fit.weights]), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    site = site_of(context)
    scores = site.evaluate(message.content["arrays"].to_numpy_ndarrays()[0])
    metrics = MetricRecord({"loss": scores.loss, "accuracy": scores.accuracy, "num-examples": len(site.y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
