import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import { parsedBy, port } from '../../../runtime/config-schema.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { createHttpAttestor, type HttpAttestorConfig } from './http-attestor.ts'
import { parseAgentName, parseHostName } from './http-payload.ts'

/** Empty as in SPIRE: not given. */
const hostName = parsedBy(name => name === '' ? undefined : parseHostName(name)).optional()
const agentName = parsedBy(name => parseAgentName(name === '' ? 'default' : name)).default('default')

export const httpAttestorPlugin: Plugin<NodeAttestor & AsyncDisposable, HttpAttestorConfig, unknown> = {
  name: 'http_challenge',
  config: z.strictObject({ hostname: hostName, agentname: agentName, port: port.default(0), advertised_port: port.default(0) })
    .transform(({ hostname, agentname, port, advertised_port: advertisedPort }) =>
      ({ hostName: hostname, agentName: agentname, port, advertisedPort: advertisedPort || port })),
  start: async config => ({ ...createHttpAttestor(config), [Symbol.asyncDispose]: async () => {} })
}
