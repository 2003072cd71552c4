import { generateKeyPairSync, sign, verify } from 'node:crypto'

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = { key: publicKey.export({ format: 'der', type: 'spki' }), format: 'der', type: 'spki' } as const
/** As long as what is signed of a leaf. */
const data = Buffer.alloc(450, 7)
const signature = sign('sha256', data, privateKey)

/** Microseconds of this process's CPU for one P-256 signature by `node:crypto`, and for checking one with a key as it comes in a CSR. */
export function measureCrypto (eachMs: number): { readonly sign: number, readonly verify: number } {
  return {
    sign: cpuMicrosecondsOf(eachMs, () => sign('sha256', data, privateKey)),
    verify: cpuMicrosecondsOf(eachMs, () => {
      if (!verify('sha256', data, spki, signature)) throw new Error('the signature does not verify')
    })
  }
}

function cpuMicrosecondsOf (atLeastMs: number, step: () => unknown): number {
  const begin = process.cpuUsage()
  const spent = () => {
    const { user, system } = process.cpuUsage(begin)
    return user + system
  }
  let count = 0
  for (; spent() < atLeastMs * 1000; count += 20) for (let i = 0; i < 20; i++) step()
  return spent() / count
}
