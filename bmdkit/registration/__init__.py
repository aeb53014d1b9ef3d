"""Rigid 2D-3D registration of the bones of one CT to one plain radiograph."""
