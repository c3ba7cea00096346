"""Reading rows: files of every usual format, messages in every usual shape."""
