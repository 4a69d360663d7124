"""May this request come in? Token buckets shared by the whole fleet."""
