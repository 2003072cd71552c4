import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { Clock } from '../../../runtime/clock.ts'
import { parsedBy } from '../../../runtime/config-schema.ts'
import type { NodeVerifier } from '../node-verifier.ts'
import { parseAuthority, readAuthorities } from './ssh-files.ts'
import { createSshVerifier, sshAgentPathTemplate } from './ssh-verifier.ts'

const schema = z.strictObject({
  cert_authorities: z.array(parsedBy(parseAuthority)).default([]),
  cert_authorities_path: z.string().default(''),
  canonical_domain: z.string().default(''),
  agent_path_template: sshAgentPathTemplate
}).refine(({ cert_authorities: keys, cert_authorities_path: path }) => keys.length > 0 || path !== '',
  'one of cert_authorities and cert_authorities_path must be given')

type Config = z.output<typeof schema>

export const sshVerifierPlugin: Plugin<NodeVerifier & AsyncDisposable, Config, { readonly clock: Clock }> = {
  name: 'sshpop',
  config: schema,
  async start (config, { clock }) {
    const { cert_authorities: keys, cert_authorities_path: path } = config
    // The file is read at each attestation, so that new CAs count from then on.
    const authorities = async () => path === '' ? keys : [...keys, ...await readAuthorities(path)]
    await authorities()
    const verifier = createSshVerifier({
      authorities, canonicalDomain: config.canonical_domain, agentPath: config.agent_path_template, now: () => clock.now()
    })
    return { ...verifier, [Symbol.asyncDispose]: async () => {} }
  }
}
