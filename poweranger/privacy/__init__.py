"""What may leave a site, and how it is protected: the declared list, differential privacy, secure aggregation."""
