"""Results beside each other, paired on what they were scored on."""
