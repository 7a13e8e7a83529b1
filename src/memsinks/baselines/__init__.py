"""What memsinks is compared with: finding memorised text in a trained model afterwards, and unlearning it."""
