"""The rules of billing: frames in, frames out. No file, no database, no clock."""
