import { SpiffeError } from '../../../spiffe/errors.ts'
import type { Selector } from '../../../spiffe/selector.ts'
import { readGroups } from '../process-groups.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'

/**
 * The control group that `slurmstepd` makes for each step of a job, by the job's number or, since Slurm 26.05, its SLUID. Only below the
 * system's own slice, where root alone makes groups: who was given a part of the tree could make one of the same name there.
 */
const stepPattern = /^\/system\.slice\/[^/]*slurmstepd\.scope\/(?:job_(?<jobId>\d+)|(?<sluid>s[0-9A-Za-z]+))\/step_(?<step>[^/]+)/

/**
 * SPIRE's `slurm` attestor (spire-surface §7.3): the job and the step of a process, where Slurm keeps processes in control groups of
 * version 2. A process of no job has no selectors.
 */
export function createSlurmAttestor (proc = '/proc'): WorkloadAttestor {
  return {
    name: 'slurm',
    async attest ({ pid }) {
      const found = new Map(readGroups(pid, proc).paths.flatMap(path => {
        const { jobId, sluid, step } = stepPattern.exec(path)?.groups ?? {}
        if (step === undefined) return []
        const values = [jobId === undefined ? `sluid:${sluid}` : `job_id:${jobId}`, `step:${step}`]
        return [[values.join(), values] as const]
      }))
      if (found.size > 1) throw new SpiffeError('workload_attestation_failed', `process ${pid} is in groups of several Slurm jobs`)
      return [...found.values()].flat().map((value): Selector => ({ type: 'slurm', value }))
    }
  }
}
