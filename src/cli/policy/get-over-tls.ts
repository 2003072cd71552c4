import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { connect } from 'node:tls'
import { peerChain, secureContextOf, tlsPolicy } from '../../rpc/tls-identity.ts'
import { systemClock } from '../../runtime/clock.ts'
import { verifyX509Svid } from '../../x509/verify-svid.ts'
import { type TlsFiles, tlsOfFiles } from '../authz/tls-files.ts'

/**
 * Asks a server that shows an SVID of the bundle's trust domain, and shows it one.
 * @throws {SpiffeError} `file_unusable`, and why the server is not believed; {Error} of the connection
 */
export async function getOverTls (url: URL, files: TlsFiles, signal: AbortSignal): Promise<IncomingMessage> {
  const { identity, bundleOf } = tlsOfFiles(files, [])
  const socket = connect({
    ...tlsPolicy, ALPNProtocols: ['http/1.1'], host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 443),
    secureContext: secureContextOf(identity())
  })
  try {
    await once(socket, 'secureConnect', { signal })
    verifyX509Svid(peerChain(socket), { bundleOf, at: systemClock.now() })
    const path = `${url.pathname}${url.search}`
    const asked = request({ createConnection: () => socket, path, headers: { host: url.host, connection: 'close' }, signal }).end()
    const [response] = await once(asked, 'response', { signal }) as [IncomingMessage]
    return response
  } catch (error) {
    socket.destroy()
    throw error
  }
}
