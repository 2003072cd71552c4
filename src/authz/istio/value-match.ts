import { BlockList, isIP } from 'node:net'
import type { Match } from '../policy/match.ts'
import { parsePathMatch, parseTextMatch } from '../policy/match-text.ts'
import { regularPath } from '../policy/request-path.ts'

/** Reads a host, whatever its case. @throws {Error} saying the rule */
export function parseHostMatch (text: string): Match { return parseTextMatch(text.toLowerCase()) }

/** Reads a path or a template of one. @throws {Error} saying the rule */
export function parseIstioPath (text: string): Match {
  if (text.includes('}') && !text.includes('{')) throw new Error('braces are for {*} and {**} alone')
  const match = parsePathMatch(text)
  if (match.kind !== 'exact') return match
  const regular = regularPath(match.value)
  if (regular === undefined) throw new Error('servers disagree about what such a path names: no request with it is let in')
  if (regular !== match.value) throw new Error(`has needless escapes: write ${regular}`)
  return match
}

/** Reads a port, which Istio writes as a text. @throws {Error} saying the rule */
export function parsePort (text: string): Match {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new Error('must be 0 to 65535')
  return { kind: 'exact', value: String(Number(text)) }
}

/** Reads an address or a network. Bits below its mask are nothing, as Istio has it. @throws {Error} saying the rule */
export function parseIpBlock (text: string): Match {
  const [address = '', bits, ...rest] = text.split('/')
  const family = isIP(address)
  const most = family === 4 ? 32 : 128
  const known = bits === undefined || (/^(0|[1-9][0-9]{0,2})$/.test(bits) && Number(bits) <= most)
  if (family === 0 || rest.length > 0 || address.includes('%') || !known) {
    throw new Error('must be an IP address, or a network such as 10.0.0.0/8')
  }
  const length = bits === undefined ? most : Number(bits)
  const addresses = new BlockList()
  addresses.addSubnet(address, length, family === 4 ? 'ipv4' : 'ipv6')
  return { kind: 'network', network: { text: `${address}/${length}`, addresses } }
}
