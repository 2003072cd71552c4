import type { Channel } from '../../../src/rpc/channel.ts'
import { createCertificateRequest } from '../../../src/x509/certificate-request.ts'
import { entryService } from '../../../src/wire/generated/server-entry.ts'
import { svidService } from '../../../src/wire/generated/server-svid.ts'
import type { EntryInit } from '../../../src/wire/generated/types.ts'
import { identityOf, newKey, openServerChannel, type ServerAccess, type TestIdentity } from '../../fakes/agent-client.ts'

export const id = (path: string) => ({ trustDomain: 'example.org', path })
export const selectors = [{ type: 'k8s', value: 'ns:team-a' }]
export const webOf = (team: string): EntryInit => ({ spiffeId: id(`/${team}/web`), parentId: id('/nodes/1'), selectors })

/** An X509-SVID of the server's own trust domain for this path. */
export async function mint (server: ServerAccess, path: string): Promise<TestIdentity> {
  const key = newKey()
  const csr = createCertificateRequest(key, { uriSans: [`spiffe://example.org${path}`] })
  const { svid } = await server.admin.client(svidService).mintX509SVID({ csr })
  return identityOf(svid?.certChain ?? [], key)
}

/** A channel over TLS with an SVID for this path. */
export async function openAs (server: ServerAccess, path: string): Promise<Channel> {
  return openServerChannel(server, await mint(server, path))
}

/** Over the admin socket. @returns the entries' ids */
export async function seed (server: ServerAccess, entries: readonly EntryInit[]): Promise<string[]> {
  const { results } = await server.admin.client(entryService).batchCreateEntry({ entries })
  return results.map(({ status, entry }) => {
    if (status?.code !== 0 || entry === undefined) throw new Error(`seeding: ${status?.message}`)
    return entry.id
  })
}

export function statuses (results: ReadonlyArray<{ readonly status?: { readonly code: number, readonly message: string } | undefined }>) {
  return results.map(({ status }) => status?.code)
}
