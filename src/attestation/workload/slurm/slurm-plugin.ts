import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { createSlurmAttestor } from './slurm-attestor.ts'

export const slurmPlugin: Plugin<WorkloadAttestor & AsyncDisposable, object, unknown> = {
  name: 'slurm',
  config: z.strictObject({}),
  async start () { return { ...createSlurmAttestor(), async [Symbol.asyncDispose] () {} } }
}
