"""The only package that speaks HTTP to clients: parse, call one domain function, render."""
