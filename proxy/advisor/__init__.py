"""What GPUs are worth: traffic replayed through the router itself, and when the next replica pays."""
