import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { firstOf } from '../../src/runtime/first-of.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { parseBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { newKey } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { type AnyServer, startAgent, startServer, type RunningAgent } from '../fakes/processes.ts'
import { Administrator } from './administrator.ts'

/** How long what one level says may take to be everywhere: a server looks above each 5 s. */
export const patienceMs = 60_000

export const upstreamOf = (above: AnyServer, agent: RunningAgent) => {
  const [host, port] = above.address.split(':')
  return { server_address: host, server_port: port, workload_api_socket: agent.socket }
}

/** An agent above, with a downstream identity for whoever runs as this user. */
export async function startAgentFor (above: AnyServer, name: string): Promise<RunningAgent> {
  const agent = await startAgent({ server: above })
  await using administrator = new Administrator(above)
  await administrator.register(`spiffe://example.org/${name}`, agent.id, { downstream: true })
  await using workload = openUnixChannel(agent.socket)
  const fetch = () => firstOf(workload.client(workloadService).fetchX509SVID({}, { metadata: { 'workload.spiffe.io': 'true' } }))
  await eventually(`the identity of ${name}`, () => fetch().then(() => true, () => false), patienceMs)
  return agent
}

export const startBelow = (above: AnyServer, agent: RunningAgent) =>
  startServer({ blocks: { plugins: { UpstreamAuthority: { spire: { plugin_data: upstreamOf(above, agent) } } } } })

export async function bundleOf ({ adminSocket }: AnyServer) {
  await using channel = openUnixChannel(adminSocket)
  return decodeBundle(await channel.client(bundleService).getBundle({}))
}

export async function mint ({ adminSocket }: AnyServer): Promise<readonly Uint8Array[]> {
  await using channel = openUnixChannel(adminSocket)
  const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
  return (await channel.client(svidService).mintX509SVID({ csr })).svid?.certChain ?? []
}

/** As `rootOf`, of the SVID by which an agent is known to its server, as the agent keeps it. */
export async function rootOfAgent ({ dataDir }: RunningAgent): Promise<string> {
  const { svid } = JSON.parse(await readFile(join(dataDir, 'agent-data.json'), 'utf8')) as { readonly svid: readonly string[] }
  return rootOf(svid.map(der => Buffer.from(der, 'base64')))
}

/** Key IDs, in hex, of the roots that an agent knows. */
export async function rootsKnownTo ({ dataDir }: RunningAgent): Promise<string[]> {
  const { bundle } = JSON.parse(await readFile(join(dataDir, 'agent-data.json'), 'utf8')) as { readonly bundle: string }
  const { x509Authorities } = parseBundleDocument(bundle, parseTrustDomain('example.org'))
  return x509Authorities.map(({ certificate }) => Buffer.from(parseCertificate(certificate).subjectKeyId ?? []).toString('hex'))
}

/** The key ID, in hex, of the root that a chain ends below. */
export function rootOf (chain: readonly Uint8Array[]): string {
  return Buffer.from(parseCertificate(chain.at(-1) as Uint8Array).authorityKeyId ?? []).toString('hex')
}
