// A workload in a container's control group: does with its agent's Workload API what it is told to, one JSON line for another.
import { createInterface } from 'node:readline'
import { splitCertificates } from '../../src/x509/certificate.ts'
import { securityHeader, Workload } from '../faults/workload.ts'

const base64 = (certificates: readonly Uint8Array[]) => certificates.map(der => Buffer.from(der).toString('base64'))
let workload: Workload | undefined

interface Asked { readonly what: string, readonly socket: string, readonly id: string, readonly audience: string, readonly token: string }

async function act ({ what, socket, id, audience, token }: Asked): Promise<object> {
  // Not before it is told to: a process is what it was when it connected.
  workload ??= new Workload(socket)
  switch (what) {
    case 'x509': {
      const { svids, federatedBundles } = await workload.granted(id, 60_000)
      return {
        ids: svids.map(({ spiffeId }) => spiffeId), chain: base64(splitCertificates(svids[0]?.x509Svid ?? new Uint8Array())),
        bundle: base64(splitCertificates(svids[0]?.bundle ?? new Uint8Array())),
        federated: Object.fromEntries(Object.entries(federatedBundles).map(([id, der]) => [id, base64(splitCertificates(der))]))
      }
    }
    case 'jwt': return { token: await workload.fetchJwt(id, audience) }
    case 'validate': return await workload.api.validateJWTSVID({ svid: token, audience }, { metadata: securityHeader, timeoutMs: 60_000 })
    default: throw new Error(`${what} is not known`)
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await act(JSON.parse(line) as Asked).catch((error: Error) => ({ error: error.message }))
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
process.exit(0)
