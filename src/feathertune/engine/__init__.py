"""Training and prediction on a prepared model. Layer 3; never imports `feathertune.methods`."""
