import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { Clock } from '../../../runtime/clock.ts'
import type { Logger } from '../../../runtime/logger.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { createUnixAttestor, type UnixAttestorConfig } from './unix-attestor.ts'

type Host = { readonly clock: Clock, readonly log: Logger }

export const unixPlugin: Plugin<WorkloadAttestor & AsyncDisposable, UnixAttestorConfig, Host> = {
  name: 'unix',
  config: z.strictObject({
    discover_workload_path: z.boolean().default(false),
    workload_size_limit: z.int().default(0)
  }).transform(({ discover_workload_path: discoverWorkloadPath, workload_size_limit: workloadSizeLimit }) => (
    { discoverWorkloadPath, workloadSizeLimit }
  )),
  start: async (config, { clock, log }) => ({ ...createUnixAttestor(config, { clock, log }), [Symbol.asyncDispose]: async () => {} })
}
