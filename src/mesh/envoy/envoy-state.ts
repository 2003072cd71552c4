import { request } from 'node:http'
import { z } from 'zod'

const infoSchema = z.object({ state: z.string().optional(), version: z.string().optional() })
const mostBytes = 1 << 20
const patienceMs = 1_000

/** What Envoy's admin interface says of itself; `undefined` when it does not answer in time. */
export async function readEnvoyState (
  adminSocketPath: string, signal: AbortSignal
): Promise<{ readonly state: string, readonly version: string } | undefined> {
  try {
    const { state = '', version = '' } = infoSchema.parse(JSON.parse(await get(adminSocketPath, '/server_info', signal)))
    // `hash/1.40.0/Clean/RELEASE/BoringSSL`
    return { state, version: version.split('/')[1] ?? '' }
  } catch {
    return undefined
  }
}

function get (socketPath: string, path: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const within = AbortSignal.any([signal, AbortSignal.timeout(patienceMs)])
    request({ socketPath, path, agent: false, signal: within }, response => {
      let body = ''
      response.setEncoding('utf8').on('error', reject).on('end', () => resolve(body)).on('data', (text: string) => {
        body += text
        if (body.length > mostBytes) response.destroy(new Error('the answer is too long'))
      })
    }).on('error', reject).end()
  })
}
