"""What-if: past months under candidate catalogues, compared with what is due for them."""
