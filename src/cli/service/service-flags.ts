import { isIPv6 } from 'node:net'
import { inboundModes } from '../../spiffe/service.ts'
import type { ServiceInit, StaticEndpointInit } from '../../wire/generated/assay-types.ts'
import { waitFlags } from '../convergence/wait.ts'
import { choiceFlag, pathFlag, switchFlag, textFlag, textListFlag, type Flag, type FlagValues } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'
import { portListFlag } from './port-flag.ts'

/** What a service is made of; of `service create` and `service update`. */
export const serviceFlags = {
  name: textFlag('the DNS name that callers know it by', { placeholder: 'NAME' }),
  address: textFlag('a virtual IP address for it, which no host has', { placeholder: 'IP' }),
  port: portListFlag('a port; PROTOCOL is tcp, http, http2 or grpc, LOCAL a port on the loopback of nodes that call'),
  spiffeID: textListFlag('the SPIFFE ID of workloads that serve it', 'SPIFFE-ID'),
  caller: textListFlag('who may call it, or all below a path as spiffe://example.org/path/*; without it, all of this trust domain', 'SPIFFE-ID'),
  nobody: switchFlag('nobody may call it'),
  endpoint: endpointListFlag('an address that serves it where no agent runs'),
  inbound: choiceFlag('whether plain text is let in as well', inboundModes, 'strict'),
  serviceID: textFlag('ID of the service itself', { placeholder: 'ID', defaultText: 'made by the server; of an update that of the name' }),
  data: pathFlag('read services from JSON instead; - is standard input', { placeholder: 'FILE|-' }),
  ...waitFlags,
  ...replicaFlags,
  output: outputFlag
}

/** What a `-data` file holds. */
export const dataDetails = 'A -data file holds {"services": [{"name", "ports": [{"port", "target_port", "protocol", "local_port"}],' +
  '\n"spiffe_ids", "callers", "address", "endpoints": [{"address", "port"}], "inbound", "service_id"}]}.'

type Values = FlagValues<typeof serviceFlags>

/** @throws {SpiffeError} `usage_invalid` */
function serviceOfFlags (flags: Values): ServiceInit {
  if (flags.name === undefined) throw usage('a name is required: -name')
  if (flags.port.length === 0) throw usage('at least one port is required: -port')
  if (flags.spiffeID.length === 0) throw usage('at least one SPIFFE ID is required: -spiffeID')
  if (flags.nobody && flags.caller.length > 0) throw usage('-caller and -nobody exclude each other')
  return {
    id: flags.serviceID,
    name: flags.name,
    address: flags.address,
    ports: flags.port,
    spiffeIds: flags.spiffeID,
    callers: flags.nobody || flags.caller.length > 0 ? { patterns: flags.caller } : undefined,
    staticEndpoints: flags.endpoint,
    inbound: flags.inbound
  }
}

/** The one that the flags describe, or those of a `-data` file. @throws {SpiffeError} `usage_invalid`, `file_unusable` */
export async function givenServices (flags: Values, terminal: Terminal): Promise<readonly ServiceInit[]> {
  if (flags.data === undefined) return [serviceOfFlags(flags)]
  refuseBesideData(flags)
  return await (await import('./service-data.ts')).readServiceData(flags.data, terminal)
}

/** With `-data`, flags that describe one service have no place. @throws {SpiffeError} `usage_invalid` */
function refuseBesideData (flags: Values): void {
  const { name, address, port, spiffeID, caller, nobody, endpoint, inbound, serviceID } = flags
  const described: Readonly<Record<string, boolean>> = {
    name: name !== undefined,
    address: address !== undefined,
    port: port.length > 0,
    spiffeID: spiffeID.length > 0,
    caller: caller.length > 0,
    nobody,
    endpoint: endpoint.length > 0,
    inbound: inbound !== 'strict',
    serviceID: serviceID !== undefined
  }
  const given = Object.entries(described).find(([, is]) => is)?.[0]
  if (given !== undefined) throw usage(`-${given} and -data exclude each other`)
}

function endpointListFlag (help: string): Flag<readonly StaticEndpointInit[]> {
  return {
    help, placeholder: 'IP[:PORT]', initial: [], repeats: true, accept: (text, before) => [...before, parseEndpoint(text)]
  }
}

/** The server judges the address. */
function parseEndpoint (text: string): StaticEndpointInit {
  if (isIPv6(text)) return { address: text }
  const [match, ipv6, ipv4, port] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  if (match === undefined) throw new Error('must be IP or IP:PORT, with an IPv6 address in brackets')
  return { address: ipv6 ?? ipv4, port: port === undefined ? undefined : Number(port) }
}
