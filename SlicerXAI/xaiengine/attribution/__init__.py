"""Attribution methods: which voxels a prediction rests on."""
