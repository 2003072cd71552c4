import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { createPsatAttestor, type PsatAttestorConfig } from './psat-attestor.ts'
import { clusterName } from './cluster-name.ts'

export const psatAttestorPlugin: Plugin<NodeAttestor & AsyncDisposable, PsatAttestorConfig, unknown> = {
  name: 'k8s_psat',
  config: z.strictObject({
    cluster: clusterName,
    token_path: z.string().min(1, 'must not be empty').default('/var/run/secrets/tokens/spire-agent')
  }).transform(({ cluster, token_path: tokenPath }) => ({ cluster, tokenPath })),
  start: async config => ({ ...createPsatAttestor(config), [Symbol.asyncDispose]: async () => {} })
}
