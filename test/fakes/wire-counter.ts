import { execFileSync } from 'node:child_process'
import type { PodNetwork } from './pods.ts'

/**
 * Counts on the bridge what leaves pods in the clear: each TCP packet that begins a connection to another port than that of tunnels, and
 * each that carries data outside of them, of either direction.
 */
export class WireCounter {
  readonly #network: PodNetwork

  /** Nothing is counted before. */
  constructor (network: PodNetwork) {
    this.#network = network
    // In rules of their own: of `sport != 15008 dport != 15008` nft makes one comparison, which a tunnel's answers pass.
    this.#nft('table bridge watch { chain forward { type filter hook forward priority 0; policy accept;\n' +
      'tcp sport 15008 accept\ntcp dport 15008 accept\n}\n}\n')
  }

  /** A pod that was made; its link has a name that no other has. */
  follow (pod: string): void {
    const link = this.#network.link(pod)
    const rule = (what: string) => `add rule bridge watch forward iifname "${link}" ether type ip ${what} counter comment "${link}"\n`
    this.#nft([
      rule('tcp flags & (syn | ack) == syn'),
      rule('tcp flags & psh == psh')
    ].join(''))
  }

  /** Packets by link, of those too that are gone. */
  read (): ReadonlyMap<string, number> {
    const { nftables } = JSON.parse(this.#network.inNode('nft', '-j', 'list', 'table', 'bridge', 'watch')) as
      { nftables: { rule?: { comment?: string, expr: { counter?: { packets: number } }[] } }[] }
    const counts = new Map<string, number>()
    for (const { rule } of nftables) {
      if (rule?.comment === undefined) continue
      const packets = rule.expr.reduce((sum, { counter }) => sum + (counter?.packets ?? 0), 0)
      counts.set(rule.comment, (counts.get(rule.comment) ?? 0) + packets)
    }
    return counts
  }

  #nft (input: string): void {
    execFileSync('nsenter', [`--net=${this.#network.node}`, 'nft', '-f', '-'], { input })
  }
}
