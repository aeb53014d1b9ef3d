"""Files in and out: CT, radiographs, landmarks, label maps, cohort table. LPS is made here, nowhere else."""
