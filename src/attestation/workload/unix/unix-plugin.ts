import { z } from 'zod'
import { parsePluginConfig } from '../../../plugins/parse-plugin-config.ts'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { Logger } from '../../../runtime/logger.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { createUnixAttestor, type UnixAttestorConfig } from './unix-attestor.ts'

const schema = z.strictObject({
  discover_workload_path: z.boolean().default(false),
  workload_size_limit: z.int().default(0)
})

export const unixPlugin: Plugin<WorkloadAttestor & AsyncDisposable, UnixAttestorConfig, { readonly log: Logger }> = {
  name: 'unix',
  parseConfig (raw) {
    const { discover_workload_path: discoverWorkloadPath, workload_size_limit: workloadSizeLimit } = parsePluginConfig(schema, raw)
    return { discoverWorkloadPath, workloadSizeLimit }
  },
  start: async (config, { log }) => ({ ...createUnixAttestor(config, { log }), [Symbol.asyncDispose]: async () => {} })
}
