# A build in shards with Snakemake, on one machine or on a cluster: every job builds every N-th case, the last one collects.
#   snakemake -s examples/shards.smk --cores 4 --config cohort=cohort out=dataset shards=4
# When the table has changed the jobs run again, and finished cases that are still right are kept. A case that fails is
# quarantined and the build ends with status 3: that is no failure of the job.
COHORT, OUT, SHARDS = config.get("cohort", "cohort"), config.get("out", "dataset"), int(config.get("shards", 4))
OPTIONS = config.get("options", "")


rule collect:
    input:
        expand(f"{OUT}.shards/{{number}}.done", number=range(1, SHARDS + 1)),
    output:
        f"{OUT}/manifest.csv",
    shell:
        "bmdkit build-dataset {COHORT} --out {OUT} {OPTIONS} || [ $? -eq 3 ]"


rule shard:
    input:
        f"{COHORT}/cohort.csv",
    output:
        touch(f"{OUT}.shards/{{number}}.done"),
    threads: 1
    shell:
        "bmdkit build-dataset {COHORT} --out {OUT} {OPTIONS} --shard {wildcards.number}/{SHARDS} || [ $? -eq 3 ]"
