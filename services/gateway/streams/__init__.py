"""Camera streams: order, fairness, deadlines, degradation and identity of the frames of many cameras."""
