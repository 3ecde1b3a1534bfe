"""What every other package stands on: errors, options, jobs, progress, devices, whole files."""
