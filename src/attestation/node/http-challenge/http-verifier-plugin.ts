import { z } from 'zod'
import { compileGoRegexp } from '../../../golang/go-regexp.ts'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { Clock } from '../../../runtime/clock.ts'
import { parsedBy, port } from '../../../runtime/config-schema.ts'
import type { Logger } from '../../../runtime/logger.ts'
import type { NodeVerifier } from '../node-verifier.ts'
import { createHttpVerifier } from './http-verifier.ts'

const pattern = parsedBy(pattern => {
  compileGoRegexp(pattern)
  return pattern
})

const schema = z.strictObject({
  allowed_dns_patterns: z.array(pattern).default([]),
  required_port: port.min(1, 'must be 1 to 65535').optional(),
  allow_non_root_ports: z.boolean().optional(),
  tofu: z.boolean().default(true)
}).refine(({ required_port: required, allow_non_root_ports: allowed, tofu }) =>
  tofu || (required === undefined ? allowed === false : required < 1024),
'you can not turn off trust on first use (tofu) when non-root ports are allowed: ' +
  'set allow_non_root_ports to false, or required_port below 1024')

interface Host { readonly clock: Clock, readonly log: Logger }

export const httpVerifierPlugin: Plugin<NodeVerifier & AsyncDisposable, z.output<typeof schema>, Host> = {
  name: 'http_challenge',
  config: schema,
  async start (config, { clock, log }) {
    const verifier = createHttpVerifier({
      dnsPatterns: config.allowed_dns_patterns, requiredPort: config.required_port,
      allowsNonRootPorts: config.allow_non_root_ports ?? true, tofu: config.tofu, clock, log
    })
    return { ...verifier, [Symbol.asyncDispose]: async () => {} }
  }
}
