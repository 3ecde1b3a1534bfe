"""Attribution methods for segmentation models, through windows."""
