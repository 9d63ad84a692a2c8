"""The project's prompt list: 192 prompts, each with a meaning expressed by one radical; three wordings for each of 64 radicals.

It includes all of the sixty most frequent radicals, even difficult ones (nobody would guess 攴 from "to rap on something with
a stick" alone). No wording equals a definition or one sense of a definition; a test checks this.
"""

from __future__ import annotations

PROMPTS: dict[int, tuple[str, ...]] = {
    85: ("clear water flowing in a stream", "a wide river", "waves of the ocean"),
    30: ("to shout loudly with the mouth", "the call of an animal", "to taste with the lips"),
    75: ("a tall tree in the forest", "a wooden table", "a fruit tree with blossoms"),
    140: ("a wild flower in the meadow", "a herb used as medicine", "leaves of a leafy vegetable"),
    64: ("to hold firmly in the hand", "to push away with both hands", "to throw something"),
    167: ("shining gold", "a metal tool", "an iron nail"),
    120: ("fine silk thread", "a length of rope", "to weave and sew fabric"),
    9: ("a person of high rank", "a companion or partner", "to rely on other people"),
    61: ("feeling sad at heart", "deep fear and worry", "to love and cherish"),
    149: ("to speak words", "to explain in a speech", "to ask and discuss"),
    142: ("a crawling insect", "a kind of beetle", "a venomous snake or worm"),
    118: ("made of bamboo", "a basket woven from bamboo", "a flute cut from bamboo"),
    130: ("the flesh of the belly", "a piece of fat meat", "an organ of the body"),
    195: ("a fish of the sea", "a large freshwater carp", "a small silvery fish"),
    32: ("a heap of earth", "a wall built of soil", "clay ground"),
    196: ("a small song bird", "a water bird like a duck", "a bird of prey"),
    38: ("a beautiful woman", "an elder sister", "to take a wife and marry her"),
    86: ("a burning fire", "to roast over flames", "hot and glowing coals"),
    46: ("the peak of a mountain", "a steep cliff in the mountains", "the ridge of a high hill"),
    157: ("to kick with the foot", "to jump up and down", "to trample under foot"),
    104: ("a painful disease", "an itching sore on the skin", "sick with a fever"),
    96: ("a kind of green jade", "a precious gem", "a jade ornament worn at the belt"),
    112: ("a hard rock", "a stone tool for grinding", "gravel and pebbles"),
    109: ("to look with the eyes", "the pupils of both eyes", "blind in both eyes"),
    187: ("a galloping horse", "a fine black steed", "to ride on horseback"),
    72: ("the sun at dawn", "bright daylight", "a sunny afternoon"),
    145: ("an upper garment", "a padded jacket", "the sleeve of a robe"),
    162: ("to walk far away", "to pursue along the road", "to go back and return"),
    159: ("a cart with two wheels", "the axle of a carriage", "the rumbling of a wagon"),
    94: ("a barking dog", "a wild beast like a fox", "a monkey in the jungle"),
    184: ("to eat cooked food", "a meal of steamed cakes", "hungry for something to eat"),
    154: ("wealth and money", "to buy goods for a price", "a valuable gift of cowrie shells"),
    115: ("growing grain in the field", "an ear of rice or millet", "the harvest of crops"),
    181: ("the forehead of the face", "the nape of the neck", "the crown of the head"),
    18: ("to cut with a knife", "a sharp blade", "to carve with a chisel"),
    169: ("a wooden gate", "to bolt the door", "the gateway of a village"),
    170: ("a steep slope", "a dam or embankment", "a narrow mountain pass"),
    163: ("the name of an ancient city", "a feudal state in the Zhou dynasty", "a district outside the capital"),
    119: ("grains of rice", "flour ground from rice", "a thin gruel of rice"),
    164: ("fermented wine", "drunk with liquor", "a strong alcoholic drink"),
    40: ("a room inside the house", "peaceful home", "to lodge under a roof"),
    50: ("a cloth towel", "a curtain of cotton cloth", "a flag or banner"),
    53: ("a storehouse", "a spacious hall", "a stable with a roof"),
    177: ("a strap made of leather", "shoes of soft leather", "the reins of a harness"),
    113: ("prayers to the gods", "a sacrifice to the ancestors", "blessing from heaven"),
    66: ("to strike with a stick", "to rap on something with a stick", "to attack and beat"),
    173: ("pouring rain", "falling snow", "thunder and lightning"),
    116: ("a deep and dark cave", "a hole in the ground", "a hollow burrow"),
    93: ("an ox or cow", "a young calf", "a strong bull"),
    76: ("to yawn with an open mouth", "to sigh out loud", "to sob and gasp for breath"),
    190: ("long hair of the head", "a thick beard", "hair tied in a knot"),
    147: ("to see and observe", "to have an audience with the emperor", "to peep at secretly"),
    156: ("to run very fast", "to hurry forward", "to rush and stumble while running"),
    19: ("strength and power", "to exert all of one's effort", "to encourage hard work"),
    102: ("a rice field", "the boundary path between farm fields", "farmland with fields"),
    60: ("to walk slowly back and forth", "a small footpath", "to linger and hesitate"),
    78: ("to die young", "a dead body", "to bury the dead"),
    137: ("a boat with a sail", "a warship", "the cabin of a ship"),
    182: ("a strong wind", "a storm or typhoon", "the sound of the wind blowing"),
    98: ("a roof tile", "a jar of earthenware", "a pottery vase"),
    211: ("the teeth of the mouth", "a decayed tooth", "to gnaw and chew"),
    57: ("a bow and arrow", "drawing a bow", "a bowstring"),
    128: ("to hear with the ear", "deaf in both ears", "an ear lobe"),
    188: ("the bones of a skeleton", "the thigh bone", "the skull of the dead"),
}
"""Kangxi radical number -> wordings."""


def flat() -> tuple[list[str], list[int]]:
    """Return every prompt and its radical, ordered by wording, so that any prefix of the list has many radicals."""
    wordings = len(PROMPTS[85])
    prompts = [PROMPTS[r][k] for k in range(wordings) for r in PROMPTS]
    return prompts, list(PROMPTS) * wordings
