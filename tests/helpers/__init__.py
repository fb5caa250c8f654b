"""What several tests share: tiny models, small runs, servers, scripts that are run as processes."""
