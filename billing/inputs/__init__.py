"""Read what is given beside usage: catalogue, accounts, requests, payments and tax rates."""
