"""The way out: a folder that a reviewer can run and count (FOLDER.md is its layout).

    artifacts, training script, logs  ->  decoder, self-extracting script, README.md, submission.json

Owns what is written into the folder; `pgpack.referee` judges it and takes nothing from here.
"""
