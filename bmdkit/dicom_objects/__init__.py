"""Results as DICOM objects that belong to the study they come from; written by highdicom.

They carry the patient's identification, as DICOM asks for, unless their source was given a pseudonym.
"""
