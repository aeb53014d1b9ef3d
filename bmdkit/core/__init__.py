"""The nouns: volumes, radiographs, geometry, poses, landmarks, cases. No files, no command line."""
