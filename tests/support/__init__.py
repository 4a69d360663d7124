"""What the tests share: servers, clocks, factories, and deliberately broken variants."""
