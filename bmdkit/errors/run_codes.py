"""What can be wrong with a run: the machine, the output, a training, an evaluation, an export, a simulation."""

from __future__ import annotations

from bmdkit.errors.code import Code

RUN_CODES: dict[str, Code] = {
    "BMD-OUT-001": Code(
        "The file system is full.", "Free some space and run the same command again: it resumes.", "exit 6"
    ),
    "BMD-DRR-001": Code(
        "A CUDA device was asked for and DRRs cannot be rendered on it.",
        "Use --device cpu, or a machine with an NVIDIA GPU and a CUDA build of torch, which brings triton.",
        "exit 4",
    ),
    "BMD-RUN-001": Code(
        "The process of a case was killed.", "Run again: it is resumed. Is there enough memory?", "failed"
    ),
    "BMD-RUN-002": Code("A case took too long.", "Raise --timeout-per-case and run again.", "failed"),
    "BMD-RUN-003": Code(
        "A case needed more memory than it may have.",
        "Raise --memory-per-case, or run again with fewer --n-jobs.",
        "failed",
    ),
    "BMD-RUN-004": Code("A case met a bug.", "Report it with its file in logs/; run again after an update.", "failed"),
    "BMD-RUN-005": Code(
        "A file could not be read or written while a case was built.",
        "Check the disk, the network and the permissions, and run again: it is resumed.",
        "failed",
    ),
    "BMD-RUN-020": Code("Another run is writing to the output.", "Wait for it, or choose another --out.", "exit 5"),
    "BMD-RUN-030": Code(
        "The output cannot be written to.", "Choose another --out, or change its permissions.", "exit 4"
    ),
    "BMD-RUN-031": Code(
        "The output's file system has less room than the build needs.", "Free some, or choose another --out.", "exit 4"
    ),
    "BMD-RUN-032": Code(
        "A column of cohort.csv bears the name of a column of the manifest.", "Rename the column.", "exit 4"
    ),
    "BMD-RUN-033": Code("A patient is in two folds.", "Give all rows of a patient one whole number as fold.", "exit 4"),
    "BMD-RUN-034": Code(
        "The output holds cases that the cohort does not.",
        "Choose another --out, or remove them with --overwrite.",
        "exit 4",
    ),
    "BMD-RUN-035": Code("The folder is no dataset of bmdkit.", "Name the --out of a build-dataset run.", "exit 4"),
    "BMD-RUN-037": Code(
        "The output folder holds something other than a dataset.", "Choose an empty or a new folder as --out.", "exit 4"
    ),
    "BMD-RUN-036": Code("--only names a patient that the cohort does not have.", "Check the identifier.", "exit 4"),
    "BMD-RUN-038": Code(
        "The Dask cluster cannot be used.",
        "Check the address of --dask, and that the scheduler runs; `pip install bmdkit[dask]`.",
        "exit 4",
    ),
    "BMD-RUN-039": Code(
        "A worker of the cluster cannot build this case.",
        "Give all machines the same bmdkit, and the output and the cohort under the same paths; run again.",
        "failed",
    ),
    "BMD-RUN-040": Code(
        "The GPU has less free memory than the run needs.",
        "End what else runs on it, run with fewer --n-jobs, or use --device cpu.",
        "exit 4",
    ),
    "BMD-RUN-041": Code(
        "No case of the build is there yet.",
        "Run build-dataset again, or wait for its first case; `bmdkit status` shows how far it is.",
        "exit 4",
    ),
    "BMD-TRN-001": Code(
        "The folder to train on is no built dataset.", "Give the folder that `bmdkit build-dataset` wrote.", "exit 4"
    ),
    "BMD-TRN-002": Code(
        "The images are not in the units of a built dataset: radiographs in [0, 1], projections in g/cm2.",
        "Build the dataset again with this version.",
        "exit 4",
    ),
    "BMD-TRN-003": Code(
        "The manifest cannot be used: a patient is in two folds, or a value is missing or no number.",
        "Build the dataset again; do not edit the manifest by hand.",
        "exit 4",
    ),
    "BMD-TRN-004": Code(
        "There is nothing to train on, or nobody in the fold to hold out.",
        "Choose another fold, or `--fold all`; look at the manifest for what the pairs failed at.",
        "exit 4",
    ),
    "BMD-TRN-005": Code(
        "An image of a pair is missing, damaged, not finite or of another shape.",
        "Run `bmdkit fsck`, and build the named pair again.",
        "exit 4",
    ),
    "BMD-TRN-006": Code(
        "The weights belong to another architecture.",
        "Train with the generator settings of the run that they come from (its config.json).",
        "exit 4",
    ),
    "BMD-TRN-007": Code(
        "A loss became infinite or NaN.",
        "Lower optimiser.lr, or use loop.precision float32; the last checkpoints are from before.",
        "failed",
    ),
    "BMD-TRN-008": Code(
        "The output folder holds another run, or something else.",
        "Choose another folder, or `--overwrite`.",
        "exit 4",
    ),
    "BMD-TRN-009": Code(
        "A run or its weights cannot be read; pickled weights are never opened.",
        "Give the folder of a finished run; restore the file, or train again with `--overwrite`.",
        "exit 4",
    ),
    "BMD-TRN-010": Code(
        "The device that was asked for is not there.", "Use `--device auto`, or see `bmdkit doctor`.", "exit 4"
    ),
    "BMD-TRN-011": Code(
        "TensorBoard was asked for and is not installed.",
        "`pip install tensorboard`, or leave loop.tensorboard out; log.csv has the same numbers.",
        "exit 4",
    ),
    "BMD-TRN-012": Code(
        "An unpaired training or a ridge regression has no finished decomposition run to start from.",
        "Give one as --init-from: it says what bone looks like. A ridge regression needs one of dataset B.",
        "exit 4",
    ),
    "BMD-TRN-013": Code(
        "No pair says where the landmarks of the proximal femur project.",
        "Build or simulate the dataset again, with landmarks found or given.",
        "exit 4",
    ),
    "BMD-TRN-014": Code(
        "The run to start from, or one before it, has learnt from patients that are to be held out.",
        "Start from a run that held out the same fold; `--fold all` trains on everybody and measures nobody.",
        "exit 4",
    ),
    "BMD-TRN-015": Code(
        "The processes of a training do not see the same checkpoints.",
        "Give as --out a folder that all of them share.",
        "exit 4",
    ),
    "BMD-TRN-020": Code(
        "The folder to learn segmentation from is neither a cohort with labels nor images with labels.",
        "Give a cohort whose column labels is filled, or a folder with images/NAME.nii.gz and labels/NAME.nii.gz.",
        "exit 4",
    ),
    "BMD-TRN-021": Code(
        "A CT or label map to learn from cannot be used.", "Correct the named file, or leave it out.", "exit 4"
    ),
    "BMD-TRN-022": Code(
        "What a trained network predicts of patients that were held out is nearly the same for all; of ten patients or "
        "more that ends the training with status 3, unless loop.judge is false.",
        "Train longer or on more patients; a lower optimiser.lr or optimiser.warmup_steps keeps it from going dark.",
        "warning",
    ),
    "BMD-TRN-023": Code(
        "A trained network is no better on patients that were held out than the mean of those it learnt from; of ten "
        "patients or more that ends the training with status 3, unless loop.judge is false.",
        "Train longer or on more patients, or start from a run that has learnt already (--init-from).",
        "warning",
    ),
    "BMD-EVA-001": Code("A folder to evaluate is no finished run.", "Give the --out of a finished training.", "exit 4"),
    "BMD-EVA-002": Code(
        "A run was trained on another dataset than the one it is to be evaluated on.",
        "Give the dataset of the training as --data.",
        "exit 4",
    ),
    "BMD-EVA-003": Code("Two runs are of the same method, task, fold and seed.", "Leave one of them out.", "exit 4"),
    "BMD-EVA-004": Code(
        "A run has no patients of the split that was asked for.",
        "Train with a fold held out, or evaluate with --split train.",
        "exit 4",
    ),
    "BMD-EVA-005": Code(
        "Nothing says whether the data are simulated or clinical.",
        "Give --kind simulated or --kind clinical.",
        "exit 4",
    ),
    "BMD-EVA-006": Code("The dataset that a run was trained on is not found.", "Give it as --data.", "exit 4"),
    "BMD-EVA-007": Code(
        "The datasets of the runs are not of the same patients.",
        "Compare runs of one cohort, built with calibrated and with uncalibrated targets.",
        "exit 4",
    ),
    "BMD-PRE-004": Code(
        "The runs do not predict together.",
        "Give decompositions of dataset B, each once, and at most one regression of each task, all of the same data.",
        "exit 4",
    ),
    "BMD-PRE-001": Code(
        "The run cannot predict BMD.",
        "Give a finished decomposition run of dataset B whose patients have BMD, made with this version.",
        "exit 4",
    ),
    "BMD-PRE-002": Code(
        "The folder to predict to holds something else.",
        "Choose another --out, or replace an earlier prediction with --overwrite.",
        "exit 4",
    ),
    "BMD-PRE-003": Code(
        "A folder that was named to be predicted holds no radiographs.",
        "Name radiographs or folders of them; the folder of a training goes after --run.",
        "exit 4",
    ),
    "BMD-PRE-005": Code(
        "The hips of known DXA-BMD give no line.",
        "Name hips of four patients or more whose radiographs can be read, and a run that tells DXA-BMD.",
        "exit 4",
    ),
    "BMD-PRE-006": Code(
        "What the run tells says no more of hips of known DXA-BMD than their mean does.",
        "Do not use these numbers: look at sides, polarity and the pictures, name more hips, or train on them.",
        "warning",
    ),
    "BMD-RAT-001": Code(
        "A file of ratings cannot be used.",
        "Write pair_id and rating (good, review or bad) a line, as the report saves them.",
        "exit 4",
    ),
    "BMD-DCM-002": Code(
        "DICOM objects, which name the patient, are not written into a dataset, which names nobody.",
        "Choose an --out outside of the dataset's folder, or leave --dicom out.",
        "exit 4",
    ),
    "BMD-EXP-001": Code("The folder to export to holds something.", "Name a new folder.", "exit 4"),
    "BMD-EXP-002": Code(
        "A library that writes or checks this format is not installed.", "`pip install bmdkit[onnx]`.", "exit 4"
    ),
    "BMD-EXP-003": Code(
        "An exported copy does not give what the network gives.",
        "Do not use it; try another format, and report it with the versions that `bmdkit doctor` names.",
        "exit 4",
    ),
    "BMD-SIM-001": Code(
        "The folder of a simulation holds something else.",
        "Name a new folder, or give --overwrite to replace a simulated cohort.",
        "exit 4",
    ),
    "BMD-SIM-002": Code(
        "A label map given as anatomy cannot be read, or its structures have no names.",
        "Name its values: --anatomy-labels pelvis=1 femur=2 sacrum=3 spine=4.",
        "exit 4",
    ),
    "BMD-SIM-003": Code(
        "A label map given as anatomy lacks a bone that a hip needs, or shows too little of it.",
        "It has to show the pelvis, and both femurs to at least 3 cm below the lesser trochanter.",
        "exit 4",
    ),
}
