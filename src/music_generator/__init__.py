"""Piano performances composed, continued and infilled by a bidirectional LSTM."""
