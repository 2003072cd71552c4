import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { firstOf } from '../../src/runtime/first-of.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { PermissionDeniedDetails } from '../../src/wire/generated/types.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { workloadService, type X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { openServerChannel } from '../fakes/agent-client.ts'
import { type JoinableServer, securityHeader, type TestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { type SpireServer, startSpireServer, type StartSpireOptions } from '../fakes/spire.ts'
import { Administrator } from './administrator.ts'

/** How long a change may take to be everywhere: SPIRE's server looks after itself each 5 s. */
export const patienceMs = 60_000

/** A real SPIRE server that agents of this process join, and its operator. */
export interface AtSpire extends SpireServer, JoinableServer { readonly operator: Administrator }

/** Agents attest as often as they like, and entries are looked at each second. */
export async function startAtSpire ({ config = {}, ...rest }: StartSpireOptions = {}): Promise<AtSpire> {
  await using scope = new AsyncDisposableStack()
  const server = scope.use(await startSpireServer({
    config: { ratelimit: { attestation: false, signing: false }, experimental: { cache_reload_interval: '1s' }, ...config }, ...rest
  }))
  const admin = scope.use(openUnixChannel(server.adminSocket))
  const operator = scope.use(new Administrator(server))
  const scopeOfIt = scope.move()
  return {
    ...server, admin, operator, config: { trustDomain: parseTrustDomain(server.trustDomain) },
    ready: { port: Number(server.address.split(':')[1]) }, [Symbol.asyncDispose]: () => scopeOfIt.disposeAsync()
  }
}

/** What the workload that this process is has now; `undefined`: nothing yet. */
export async function stateOf ({ workload }: TestAgent): Promise<X509SVIDResponse | undefined> {
  try {
    return await firstOf(workload.client(workloadService).fetchX509SVID({}, { ...securityHeader, timeoutMs: 30_000 }))
  } catch (error) {
    if (error instanceof RpcError && ['PERMISSION_DENIED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED'].includes(error.status)) return undefined
    throw error
  }
}

/** Waits until the agent serves this ID to the workload that this process is. */
export async function serves (agent: TestAgent, id: string): Promise<void> {
  await eventually(`${id} is served`, async () => {
    const { svids } = await stateOf(agent) ?? { svids: [] }
    return svids.some(({ spiffeId }) => spiffeId === id)
  }, patienceMs)
}

/** Key IDs, in hex, of the roots below which the workload's SVIDs are signed. */
export async function rootsOf (agent: TestAgent): Promise<string[]> {
  const { svids } = await stateOf(agent) ?? { svids: [] }
  return svids.map(({ x509Svid }) => hex(parseCertificate(splitCertificates(x509Svid).at(-1) as Uint8Array).authorityKeyId))
}

/** The agent's own SVID, as it keeps it: its serial as SPIRE writes it, and the key ID, in hex, of its root. */
export async function ownSvidOf ({ folder }: Pick<TestAgent, 'folder'>) {
  const text = await readFile(join(folder, 'agent-data.json'), 'utf8')
  const { svid, private_key: key } = JSON.parse(text) as { readonly svid: readonly string[], readonly private_key: string }
  const chain = svid.map(der => Buffer.from(der, 'base64'))
  const [leaf, last] = [chain[0], chain.at(-1)].map(der => parseCertificate(der as Uint8Array))
  const serialNumber = BigInt(`0x${leaf?.serialNumber}`).toString()
  return { chain, privateKey: Buffer.from(key, 'base64'), serialNumber, root: hex(last?.authorityKeyId) }
}

/** Asks the server as an agent with this SVID. @returns why it is refused; `undefined` when it is not */
export async function refusalOf (
  server: JoinableServer, svid: { readonly chain: readonly Uint8Array[], readonly privateKey: Uint8Array }
): Promise<number | undefined> {
  await using channel = openServerChannel(server, svid)
  try {
    await channel.client(entryService).getAuthorizedEntries({})
    return undefined
  } catch (error) {
    if (!(error instanceof RpcError)) throw error
    return error.detail(PermissionDeniedDetails)?.reason ?? -1
  }
}

function hex (bytes: Uint8Array | undefined): string { return Buffer.from(bytes ?? []).toString('hex') }
