import { parseEndpointAddress } from '../spiffe/endpoint-address.ts'
import { choiceFlag, pathFlag, pathListFlag, textFlag } from './flag.ts'
import { usage } from './parse-flags.ts'
import type { Terminal } from './terminal.ts'

export const defaultServerSocket = '/tmp/assay-server/private/api.sock'
const defaultAgentSocket = '/tmp/assay-agent/public/api.sock'

export const outputFlag = choiceFlag('form of the output', ['pretty', 'json'], 'pretty')

const instance = textFlag('fills %i in the socket template of the environment', { placeholder: 'NAME' })

const serverSocket = { placeholder: 'PATH', defaultText: `$ASSAY_SERVER_SOCKET or ${defaultServerSocket}` }

/** Flags of every command that talks to a server. */
export const serverFlags = { socketPath: pathFlag('the server\'s admin socket', serverSocket), instance }

/** Flags of commands that go on at another replica when one goes away. */
export const replicaFlags = {
  socketPath: pathListFlag('a server\'s admin socket; of several replicas\', the next is asked when one is away', serverSocket),
  instance
}

/** Flags of every command that talks to an agent. */
export const agentFlags = {
  socketPath: pathFlag('the agent\'s socket', {
    placeholder: 'PATH', defaultText: `$SPIFFE_ENDPOINT_SOCKET or ${defaultAgentSocket}`
  }),
  instance
}

const agentAdminSocket = { assay: '/tmp/assay-agent/private/admin.sock', spire: '/tmp/spire-agent/private/admin.sock' } as const

/** Flags of commands for whoever administers an agent; its configuration says where that socket is, if anywhere. */
export const agentAdminFlags = {
  socketPath: pathFlag('the agent\'s admin_socket_path', { placeholder: 'PATH', defaultText: agentAdminSocket.assay })
}

/** @throws {SpiffeError} `endpoint_malformed` */
export function agentAdminSocketPath (socketPath: string | undefined, { program }: Pick<Terminal, 'program'>): string {
  return socketPath === undefined ? agentAdminSocket[program === 'assay' ? 'assay' : 'spire'] : pathOf(socketPath, '-socketPath')
}

type Environment = Readonly<Record<string, string | undefined>>
interface SocketFlags { readonly socketPath: string | undefined, readonly instance: string | undefined }

/**
 * `-socketPath`, else `-instance` in the template, else the environment, else the default.
 * @throws {SpiffeError} `usage_invalid`, `endpoint_malformed`
 */
export function serverSocketPath (flags: SocketFlags, environment: Environment): string {
  const templates = ['ASSAY_SERVER_SOCKET_TEMPLATE', 'SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE']
  return resolve(flags, environment, ['ASSAY_SERVER_SOCKET', 'SPIRE_SERVER_PRIVATE_SOCKET'], templates) ?? defaultServerSocket
}

/** The same for each of several; at least one. @throws {SpiffeError} `usage_invalid`, `endpoint_malformed` */
export function serverSocketPaths (
  { socketPath, instance }: Omit<SocketFlags, 'socketPath'> & { readonly socketPath: readonly string[] }, environment: Environment
): readonly string[] {
  if (socketPath.length === 0) return [serverSocketPath({ socketPath: undefined, instance }, environment)]
  return socketPath.map(path => serverSocketPath({ socketPath: path, instance }, environment))
}

/**
 * As for the server; `SPIFFE_ENDPOINT_SOCKET` is the standard's own variable (WLE-07).
 * @throws {SpiffeError} `usage_invalid`, `endpoint_malformed`
 */
export function agentSocketPath (flags: SocketFlags, environment: Environment): string {
  const templates = ['ASSAY_AGENT_SOCKET_TEMPLATE', 'SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE']
  return resolve(flags, environment, ['SPIFFE_ENDPOINT_SOCKET', 'SPIRE_AGENT_PUBLIC_SOCKET'], templates) ?? defaultAgentSocket
}

function resolve (
  flags: SocketFlags, environment: Environment, names: readonly string[], templates: readonly string[]
): string | undefined {
  if (flags.socketPath !== undefined) return pathOf(flags.socketPath, '-socketPath')
  if (flags.instance !== undefined) {
    const name = templates.find(name => environment[name])
    const template = name === undefined ? undefined : environment[name]
    if (template === undefined) throw usage(`-instance needs the environment variable ${templates.join(' or ')}`)
    if (!template.includes('%i')) throw usage(`${name} has no %i for -instance`)
    return pathOf(template.replaceAll('%i', flags.instance), name as string)
  }
  const name = names.find(name => environment[name])
  return name === undefined ? undefined : pathOf(environment[name] as string, name)
}

/** An address by the standard (WLE-08); everywhere but in the standard's own variable a plain path too. */
function pathOf (address: string, from: string): string {
  if (!/^[a-z]+:/i.test(address) && from !== 'SPIFFE_ENDPOINT_SOCKET') return address
  const endpoint = parseEndpointAddress(address)
  if (endpoint.kind === 'tcp') throw usage(`${from}: ${JSON.stringify(address)} is TCP, and assay calls over Unix sockets only`)
  return endpoint.path
}
