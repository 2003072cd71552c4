import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { Clock } from '../../../runtime/clock.ts'
import type { Bundle } from '../../../spiffe/bundle.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { TrustDomain } from '../../../spiffe/trust-domain.ts'
import type { NodeVerifier } from '../node-verifier.ts'
import { popAgentPathTemplate } from './pop-agent-path.ts'
import { createPopVerifier, type PopVerifierConfig } from './pop-verifier.ts'
import { readCertificateFiles } from './certificate-file.ts'

const path = z.string().min(1, 'must not be empty')
const count = z.number().int().min(1, 'must be greater than 0')

const prefix = z.string().regex(/^(?:\/.*)?$/, 'must begin with /, or be empty for any SVID')

const schema = z.strictObject({
  mode: z.enum(['external_pki', 'spiffe']).default('external_pki'),
  ca_bundle_path: path.optional(),
  ca_bundle_paths: z.array(path).default([]),
  spiffe_prefix: prefix.optional(),
  // What SPIRE's documentation calls the same.
  svid_prefix: prefix.optional(),
  agent_path_template: popAgentPathTemplate,
  max_intermediates: count.default(4),
  max_rsa_key_size: count.default(8192),
  verify_client_ip: z.boolean().default(false)
}).superRefine(({ mode, ca_bundle_path: one, ca_bundle_paths: several, spiffe_prefix: prefix, svid_prefix: alias }, context) => {
  const wrong = (message: string) => { context.addIssue({ code: 'custom', message }) }
  if (prefix !== undefined && alias !== undefined) wrong('spiffe_prefix and svid_prefix are the same: only one may be given')
  const files = several.length + (one === undefined ? 0 : 1)
  if (one !== undefined && several.length > 0) wrong('only one of ca_bundle_path and ca_bundle_paths may be given')
  else if (mode === 'external_pki' && files === 0) wrong('one of ca_bundle_path and ca_bundle_paths must be given')
  else if (mode === 'spiffe' && files > 0) wrong('in mode spiffe the trust domain\'s own bundle counts: no ca_bundle_path')
})

type Config = z.output<typeof schema>

interface Host {
  readonly clock: Clock
  readonly trustDomain: TrustDomain
  /** `undefined` until there is one. */
  readonly ownBundle: () => Bundle | undefined
}

export const popVerifierPlugin: Plugin<NodeVerifier & AsyncDisposable, Config, Host> = {
  name: 'x509pop',
  config: schema,
  async start (config, host) {
    const trust = trustOf(config, host)
    // Files that are of no use keep the server from starting; later they refuse agents until they are mended.
    if (config.mode === 'external_pki') await trust()
    const verifier: PopVerifierConfig = {
      trustDomain: host.trustDomain, trust, now: () => host.clock.now(), checksAddress: config.verify_client_ip,
      svidPrefix: config.mode === 'spiffe' ? prefixOf(config).replace(/\/*$/, '/') : undefined,
      agentPath: config.agent_path_template,
      mostIntermediates: config.max_intermediates, mostRsaBits: config.max_rsa_key_size
    }
    return { ...createPopVerifier(verifier), [Symbol.asyncDispose]: async () => {} }
  }
}

function prefixOf ({ spiffe_prefix: prefix, svid_prefix: alias }: Config): string { return prefix ?? alias ?? '/spire-exchange' }

/** Files are read at each attestation, so that new CAs count from then on. */
function trustOf (config: Config, { trustDomain, ownBundle }: Host): () => Promise<Bundle> {
  if (config.mode === 'spiffe') {
    return async () => {
      const bundle = ownBundle()
      if (bundle === undefined) throw new SpiffeError('server_initializing', 'the server has no bundle yet')
      return bundle
    }
  }
  const paths = config.ca_bundle_path === undefined ? config.ca_bundle_paths : [config.ca_bundle_path]
  return async () => ({
    trustDomain,
    x509Authorities: (await readCertificateFiles(paths)).map(certificate => ({ certificate, tainted: false })),
    jwtAuthorities: []
  })
}
