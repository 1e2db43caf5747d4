"""What an evaluation found, as records; and the page that shows them."""
