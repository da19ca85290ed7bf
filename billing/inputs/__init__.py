"""Readers of all inputs except usage: catalogue, accounts, requests, payments and tax rates."""
