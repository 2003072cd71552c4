import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import { parseServerConfig } from '../../src/server/server-config.ts'

export const server = (text: string) => parseServerConfig({ file: { name: 'server.yaml', text } })
export const agent = (text: string) => parseAgentConfig({ file: { name: 'agent.yaml', text } })
export const serverBase = 'server:\n  trust_domain: example.org\n  data_dir: /data\n'
export const agentBase = 'agent:\n  trust_domain: example.org\n  server_address: server.test\n  server_port: 8081\n'
