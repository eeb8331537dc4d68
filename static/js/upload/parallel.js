// Runs an asynchronous action for many values, a bounded number at a time. No DOM.

const AT_ONCE = 16; // reads of small files: more do not end sooner

/**
 * @template T, R
 * @param {T[]} values
 * @param {(value: T) => Promise<R>} action one that throws ends the whole
 * @returns {Promise<R[]>} in the order of the values
 */
export async function inParallel(values, action) {
  /** @type {R[]} */
  const results = new Array(values.length);
  let next = 0;
  const work = async () => {
    while (next < values.length) {
      const at = next;
      next += 1;
      results[at] = await action(values[at]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, values.length) }, work));
  return results;
}
