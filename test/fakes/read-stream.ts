/** A stream read answer by answer; what is asked for must come, so a missing answer fails by the test's time limit. */
export function readStream<T> (stream: AsyncIterable<T>) {
  const iterator = stream[Symbol.asyncIterator]()
  const next = async (): Promise<T> => {
    const { value, done } = await iterator.next()
    if (done === true) throw new Error('the stream has ended')
    return value
  }
  return {
    next,
    /** The first that fits, leaving out those before it. */
    async until (fits: (item: T) => boolean): Promise<T> {
      for (;;) {
        const item = await next()
        if (fits(item)) return item
      }
    },
    close: () => iterator.return?.()
  }
}
