"""Bone mineral density from plain hip radiographs: datasets, registration, DRRs and networks.

Write `import bmdkit as bk`. Each name below is loaded when it is first used.

Nouns:
    Volume, LabelMap, Grid    values or structures on a grid in the patient (DICOM LPS, mm)
    Radiograph                one radiograph, brighter = denser, in [0, 1]
    Landmarks                 the eight points of one proximal femur
    RigidTransform, Pose      a rigid motion, and where a bone is in front of the camera
    ProjectionGeometry        the X-ray source and the detector
    Body, Joint, TurnPrior    any bone that is to be registered, and what holds it to another
    Shown, StartSpread        a radiograph with its camera, and how sure a start is

Files in:
    read_ct, read_radiograph, read_labels, read_landmarks

One call for each stage:
    calibrate                 the line from HU to mg/cm3 of one CT
    segment                   labels of the bones of one CT
    find_landmarks            the landmarks of one hip
    proximal_femur            the region in which BMD is measured
    volumetric_bmd, areal_bmd
                              BMD of that region, mg/cm3 and g/cm2
    render                    digitally reconstructed radiographs
    register                  poses of the bones of one CT in one radiograph
    register_views            one pose of each body in several radiographs of one moment
    build_dataset             datasets A and B of a cohort
    PairDataset               a built dataset, for torch
    predict                   BMD of a new radiograph
    simulate                  a cohort with known truth

Errors:
    BmdkitError and, below it, CaseError, PreflightError, LockedError, DiskFullError; GeometryError

These names are public and stay; every other module may change from one version to the next.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
