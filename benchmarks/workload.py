"""The work that the benchmarks of rounds, memory and peers have done: what follows from numbers only, so that anything can read it."""
IMAGE_SIZE, BATCH, EXAMPLES, VALIDATION, SEED = 96, 16, 80, 0.2, 1  # 64 images to train on, 16 to evaluate on
WORKLOAD = (f"image-size={IMAGE_SIZE} batch-size={BATCH} synthetic-examples={EXAMPLES} validation-fraction={VALIDATION} seed={SEED} "
            "fraction-fit=1 fraction-evaluate=1")
