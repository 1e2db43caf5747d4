"""The network of the recipe convolutional in Keras; run by `convolution.py` with an interpreter that has TensorFlow."""

from __future__ import annotations

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from stopwatch import seconds_of

SIDE, N_LABELS, N_LATENT = 144, 11, 2


def main(threads: int, batch_size: int, steps: int) -> None:
    """Print parameters, and the seconds of a training step by the clock and of the processor."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    encoder, decoder = networks()
    variables = encoder.trainable_variables + decoder.trainable_variables
    optimizer = keras.optimizers.Adam()
    optimizer.build(variables)

    @tf.function
    def step(image: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            mean, log_variance = encoder([image, label])
            z = mean + tf.exp(0.5 * log_variance) * tf.random.normal(tf.shape(mean))
            error = tf.reduce_sum((decoder([z, label]) - image) ** 2, [1, 2, 3])
            kl = -0.5 * tf.reduce_sum(1 + log_variance - mean**2 - tf.exp(log_variance), 1)
            loss = tf.reduce_mean(error + kl)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    rng = np.random.default_rng(0)
    image = tf.constant(rng.random((batch_size, SIDE, SIDE, 1), dtype=np.float32))
    label = tf.constant(np.eye(N_LABELS, dtype=np.float32)[rng.integers(N_LABELS, size=batch_size)])
    print(encoder.count_params() + decoder.count_params(), *seconds_of(lambda: step(image, label).numpy(), steps))


def networks() -> tuple[keras.Model, keras.Model]:
    """Make encoder and decoder."""
    image, label = layers.Input((SIDE, SIDE, 1)), layers.Input((N_LABELS,))
    channel = layers.Reshape((SIDE, SIDE, 1))(layers.Dense(SIDE * SIDE)(label))
    h = layers.Concatenate()([image, channel])
    for filters in (16, 32):
        h = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(h)
    h = layers.Dense(16, activation="relu")(layers.Flatten()(h))
    encoder = keras.Model([image, label], [layers.Dense(N_LATENT)(h), layers.Dense(N_LATENT)(h)])
    z, label = layers.Input((N_LATENT,)), layers.Input((N_LABELS,))
    small = SIDE // 4
    h = layers.Dense(small * small * 32, activation="relu")(layers.Concatenate()([z, label]))
    h = layers.Reshape((small, small, 32))(h)
    for filters in (16, 8):
        h = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(h)
    image = layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(h)
    return encoder, keras.Model([z, label], image)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
